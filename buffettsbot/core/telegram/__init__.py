"""The bot, the group, and the speed of both."""
