"""Other people's code: the shapes that it comes in, and the processes that it runs in."""
