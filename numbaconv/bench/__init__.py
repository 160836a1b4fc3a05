"""``numbaconv bench``: convolutions beside other libraries, in turns, with their noise. Nothing but the command line imports it."""
