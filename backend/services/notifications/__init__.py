"""What people should know: what waits for them, what failed."""
