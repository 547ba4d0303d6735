from dataclasses import replace

from esam_perception.stream.query_sets import RefusedQuery


def resolve_all(queries, match_default, reject_default, options):
    out = []
    for q in queries:
        m = q.match_threshold or match_default or options.match_threshold
        r = q.reject_threshold or min(reject_default or options.reject_threshold, m)
        if r > m:
            raise RefusedQuery("bad_threshold", f"query {q.text!r}: reject {r} above match {m}")
        out.append(replace(q, match_threshold=m, reject_threshold=r))
    return tuple(out)
