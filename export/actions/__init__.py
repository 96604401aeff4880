"""Names for learned actions: show what each code does, learn which key it is, write that into the bundle."""
