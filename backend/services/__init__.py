"""What agents and people use beside the agent core. A service never imports the agent."""
