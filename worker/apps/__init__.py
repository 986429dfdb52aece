"""Composition: one file a program. These modules know every part; nothing below imports them."""
