"""The duplex link: devices near each other."""
