"""The order in which tests run that share a large network."""


def by_case(items: list) -> None:
    """Sort tests so that those of one case (parameter `official`) run together; all others stay in their places."""

    def case_of(item):
        return (getattr(item, "callspec", None) and item.callspec.params.get("official")) or ""

    mine = [i for i, item in enumerate(items) if case_of(item)]
    order = {case: i for i, case in enumerate(dict.fromkeys(case_of(items[i]) for i in mine))}
    for i, item in zip(mine, sorted((items[i] for i in mine), key=lambda item: order[case_of(item)])):
        items[i] = item
