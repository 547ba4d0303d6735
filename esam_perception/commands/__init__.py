"""What `esam COMMAND` does, one file a command; the dispatcher."""
