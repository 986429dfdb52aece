"""The pure core: records and state in; rows, findings, messages and new state out. No I/O, no clock."""
