"""The study: how far its jobs have come, which failed, and which software and data made it."""

from __future__ import annotations

from nnunetv2_diffusion.report.section import Context, Section

CSV_FILES = ("study.csv",)
_DONE = ("finished", "finished in part")
_OTHERS = ("running", "failed", "cut off", "waiting")


def section(context: Context) -> Section | None:
    """Where the report is of a study; the job that makes this very report does not count."""
    if context.study is None:
        return None
    jobs = context.study.progress[context.study.progress["rule"] != "report"]
    rows = [
        {
            "rule": rule.replace("_", " "),
            "jobs": len(group),
            "finished": int(group["state"].isin(_DONE).sum()),
            "others": {
                state: ", ".join(group.loc[group["state"] == state, "job"])
                for state in _OTHERS
                if state in set(group["state"])
            },
        }
        for rule, group in jobs.groupby("rule", sort=False)
    ]
    told = jobs[(jobs["last_line"] != "") | jobs["state"].isin(["failed", "cut off"])]
    return Section(
        id="study",
        title="The study",
        template="study.html.j2",
        tables={"study": context.study.progress},
        variables={
            "rows": rows,
            "jobs": len(jobs),
            "finished": int(jobs["state"].isin(_DONE).sum()),
            "told": told.to_dict("records"),
            "software": context.study.software,
            "data": context.study.data,
        },
    )
