"""What is done with a build that exists, a command a file, and what the command line prints."""
