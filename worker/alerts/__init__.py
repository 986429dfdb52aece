"""Delivery of incidents to people and systems: a process and consumer group of its own.

The pure parts (`routing`, `schedule`, `breaker`, `limiter`, `outbox`, `message`, `rendering`, `digest`) decide; the
edges (`runner`, `journal`, `http`, `destinations`) send. `outbox` describes the delivery protocol.
"""
