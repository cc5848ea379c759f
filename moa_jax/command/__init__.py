"""The command line: flags, modes, plan, and what a person meets at the terminal."""
