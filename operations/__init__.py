"""What an operator sees of a process: its journal, its service state, its commands' output."""
