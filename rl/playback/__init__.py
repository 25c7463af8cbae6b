"""Playing one recorded episode again, step by step, for the pages.

schema    the episode as the pages show it
__main__  the process that plays it: snapshot → policy → steps → what each term paid
"""
