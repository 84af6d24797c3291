"""Where agents run commands and keep files: a protocol, its drivers, and the manager that holds the live boxes."""
