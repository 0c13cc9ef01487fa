"""What every experiment shares: options, life cycle, verdict, tables."""
