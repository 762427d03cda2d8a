"""What many commands share: options, output, tables, files."""
