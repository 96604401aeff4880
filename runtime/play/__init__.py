"""Play a world: a window for people, a headless run for machines, clips and action logs from both."""
