"""Who was to be counted, who was, by which channel, and who perhaps twice. Sans-I/O; the database is `storage`'s."""
