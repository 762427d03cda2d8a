"""What is served over HTTP: the API for the bot, and the sandbox."""
