class EsamError(Exception):
    pass


class NoWords(EsamError, ValueError):
    pass
