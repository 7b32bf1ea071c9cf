"""Why a library could not do something, in words that a table has room for."""


def reason(error):
    """The first sentence of an error."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.split('. ')[0][:200]}"
