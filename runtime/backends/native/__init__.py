"""The back end `native`: our C++ engine for CPUs, through its C header `runtime/native/include/genie_rt.h`.

header.py     what the header declares
find.py       where the library lies; library.py loads it and turns statuses into errors
handles.py    worlds, sessions and snapshots of the library as objects
saved.py      bytes that the library saves, as tensors
row.py        a row that holds a snapshot of the library
backend.py    the back end
"""
