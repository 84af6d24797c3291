"""Files that people send with their messages: kept once, shown, brought into the workspace."""
