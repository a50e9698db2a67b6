"""What the command line and a program call, a command a file, and what the command line prints."""
