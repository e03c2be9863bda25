"""What the programs share: configuration, journal, service state, what commands print, files that survive a crash."""
