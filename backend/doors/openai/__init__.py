"""OpenAI's wire under `/v1`: any of its clients talks to an agent, or straight to a model."""
