"""Clips to train on: one store for all sources, the CoinRun recorder and the video importer.

`store` holds the format, `game` the real game, `coinrun` the recorder, `video` the importer and `commands`
the command line. Nothing is imported here, so that reading a store needs neither procgen nor PyAV.
"""
