"""`python -m buffettsbot` is `buffettsbot`."""

from buffettsbot.cli import main

if __name__ == "__main__":
    main()
