"""The commands, one a file, each imported when it is called. A command returns its exit code."""
