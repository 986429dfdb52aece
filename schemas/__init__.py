"""The contracts: what comes in, what goes out, tenant policy, ClickHouse tables."""
