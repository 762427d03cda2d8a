"""buffettsbot: paid Telegram memberships, bought with TRC-20 USDT."""

__version__ = "0.1.0"
