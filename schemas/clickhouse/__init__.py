"""ClickHouse: tables and migrations."""
