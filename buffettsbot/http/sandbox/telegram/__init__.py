"""A Telegram that is emulated: its world, and the calls of its Bot API."""
