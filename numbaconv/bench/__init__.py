"""``numbaconv bench``: convolutions beside other libraries, in turns, with their noise. Only the command line imports it."""
