"""Kafka and Faust: transport, table, recovery and the delivery protocol."""
