"""The agent core: agents, their threads, runs, tools and models."""
