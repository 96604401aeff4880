"""Clips to train on: one store for all sources, the CoinRun recorder and the video importer.

`store` and `writer` hold the format, `game` the real game and `coinrun` its recorder. `video` imports videos:
`video_files` finds them, `video_source` and `video_picture` read them, `heldout` chooses what is held out.
`prompts` chooses pictures to start from, and `commands` is the command line. Nothing is imported here, so
that reading a store needs neither procgen nor PyAV.
"""
