"""Other protocols' ways in: each speaks a wire that other people's programs know, and keeps nothing of its own."""
