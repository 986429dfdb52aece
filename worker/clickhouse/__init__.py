"""ClickHouse: the writer of rows, migrations, rollups, erasure and queries."""
