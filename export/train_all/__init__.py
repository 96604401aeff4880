"""From clips to a world that plays, in one command and a given time."""
