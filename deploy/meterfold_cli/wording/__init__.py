"""What the command line says about definitions: the options of their fields, and the commands that mend an error."""
