"""Results as readers see them: tables with words for names and values with their intervals, sentences, downloads."""

import base64
import html
import mimetypes
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from tle_utils.base.text import minus

MISSING = "–"
# Names of results in the words of the field; a name that is none of these loses its underscores.
WORDS = {
    "accuracy_in_text": "accuracy in the text",
    "affected_side": "affected side is the more important (share)",
    "all": "all classes (share)",
    "auc": "AUC",
    "auc_about": "AUC, about",
    "auc_left_right": "AUC, left or right",
    "auprc": "area under precision-recall",
    "auprc_chance": "the same by chance",
    "both_sides": "both sides (share)",
    "batch_size": "participants per step",
    "ci_low": "95 % CI",
    "correct": "correct of three classes",
    "d_paired": "d free of sampling error",
    "df": "degrees of freedom",
    "ece_after": "ECE after",
    "ece_before": "ECE before",
    "ece_if_true": "ECE if all true",
    "ece": "ECE",
    "empty": "no class (share)",
    "figure_8": "Figure 8",
    "figure_12": "Figure 12",
    "fold_mean": "mean over folds",
    "fold_sd": "SD over folds",
    "gm_correlation": "grey matter, correlation",
    "gm_ml": "grey matter (ml)",
    "head_size_ml": "head size (ml)",
    "hippocampus_left_ml": "left hippocampus (ml)",
    "hippocampus_right_ml": "right hippocampus (ml)",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated gradients",
    "occlusion": "Occlusion",
    "deviation": "deviation alone",
    "l2": "L2 penalty",
    "larger_side": "always the larger side",
    "largest_class": "always the largest class",
    "left_over_right": "left / right",
    "max_epochs": "epochs at most",
    "mean_size": "classes in the set",
    "model_a": "model A",
    "model_b": "model B",
    "n_train": "in training",
    "npv": "NPV",
    "one_answer": "one answer (share)",
    "original_study": "the original study",
    "over_chance": "in the hippocampus, over chance",
    "p_corrected": "p (corrected t-test)",
    "p_holm": "p (Holm)",
    "p_mcnemar": "p (McNemar)",
    "patience": "epochs without a lower validation loss",
    "ppv": "PPV",
    "published_low": "published 95 % CI",
    "replication": "the paper",
    "rows": "predictions",
    "same_person": "nearest slice is the same person's (share)",
    "sd": "SD",
    "side_loss": "cross-entropy of the side (nats)",
    "size": "participants of the cohort",
    "spearman": "rank correlation",
    "ssim": "SSIM",
    "stated": "stated coverage",
    "reached": "reached coverage",
    "text_in_interval": "text inside the interval",
    "thalamusproper": "thalamus",
    "value_a": "value of A",
    "value_b": "value of B",
    "y_mm": "y (mm)",
}
# Names of metrics, methods and regions, which are also values.
VALUES = {"auc", "balanced_accuracy", "lateralization_accuracy", "npv", "ppv", "gradcam", "gradcam++", "smoothgrad"}
VALUES |= {"integrated_gradients", "occlusion", "deviation", "thalamusproper"}
COUNTS = {"n", "n_train", "folds", "df", "rows"}
P_VALUES = {"p", "p_corrected", "p_holm", "p_mcnemar"}
LEAST_P = 0.001  # what is smaller is not told apart


def word(name):
    """A name of a column or value as readers see it, like ``lateralization accuracy``."""
    return WORDS.get(name, name.replace("_", " ")) if isinstance(name, str) else name


class Rounded(str):
    """Numbers as text; ``full`` has all their digits."""

    def __new__(cls, text, full):
        """Both as text (str)."""
        out = super().__new__(cls, text)
        out.full = full
        return out


def _span(pattern, *parts):
    """Cells put into a pattern such as ``{} [{}, {}]``."""
    return Rounded(pattern.format(*parts), pattern.format(*(getattr(part, "full", part) for part in parts)))


def _cell(value, digits):
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating) and np.isfinite(value):
        return Rounded(minus(f"{value:z.{digits}f}"), str(value))
    if isinstance(value, str):
        return word(value) if value in VALUES else minus(value)
    return MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)


def _column(column, digits):
    values = column.astype(object)
    if column.name in COUNTS:
        values = [int(value) if isinstance(value, float) and np.isfinite(value) else value for value in values]
    if column.name in P_VALUES:
        return [f"< {LEAST_P}" if value < LEAST_P else _cell(value, max(digits, 3)) for value in values]
    return [_cell(value, digits) for value in values]


def texts(table, digits=3):
    """A table as text, with words for names, yes and no, dashes for what is missing.

    Columns ``x_low`` and ``x_high`` go into the cells of ``x`` as ``0.80 [0.76, 0.83]``; ``ci_low`` and ``ci_high``
    become one column ``0.76 to 0.83``.
    """
    out = {}
    stems = {name[:-4] for name in map(str, table) if name.endswith("_low") and f"{name[:-4]}_high" in table}
    stem_of = {f"{stem}_{end}": stem for stem in stems for end in ("low", "high")}
    for name in table:
        if name not in stem_of:
            out[name] = _column(table[name], digits)
        elif name.endswith("_low"):
            stem, known = stem_of[name], table[name].notna()
            low, high = (_column(table[f"{stem}_{end}"], digits) for end in ("low", "high"))
            if stem in table:
                spans = zip(out[stem], low, high, known, strict=True)
                out[stem] = [_span("{} [{}, {}]", *ends) if is_known else ends[0] for *ends, is_known in spans]
            else:
                spans = zip(low, high, known, strict=True)
                out[name] = [_span("{} to {}", *ends) if is_known else MISSING for *ends, is_known in spans]
    return pd.DataFrame(out, index=table.index, dtype=object).rename(columns=word, index=word)


def shown(table, digits=3, **names):
    """A table for a page (IPython.display.HTML), which sorts it and offers it as TSV with all digits; nothing is cut.

    Numbers of rows and columns without a word are left out, what is the same in every row is said below, a single row
    stands upright, everything is escaped. `digits` are the decimals of numbers that are no counts; `names` are words
    for columns that mean something else here than elsewhere.
    """
    table = table.reset_index() if table.index.nlevels > 1 else table
    text = texts(table.rename(columns=names), digits)
    numbered = table.index.name is None and pd.api.types.is_integer_dtype(table.index)
    full = table.map(lambda cell: getattr(cell, "full", cell)).to_csv(sep="\t", index=not numbered)
    text = text.loc[:, [not column.eq("").all() for _, column in text.items()]]
    text = text.map(lambda cell: cell.replace(" ", "\N{NO-BREAK SPACE}") if isinstance(cell, Rounded) else cell)
    below, same = "", np.array([column.nunique() == 1 < len(text) for _, column in text.items()])
    if any(same) and not all(same):
        said = "; ".join(f"{name} {column.iloc[0]}" for name, column in text.loc[:, same].items())
        text, below = text.loc[:, ~same], f"<p>In every row: {html.escape(said)}.</p>"
    if upright := len(text) == 1 < text.shape[1]:
        text = (text if numbered else text.rename_axis(text.index.name or "").reset_index()).T
    else:
        text = text.rename_axis(index=None, columns=text.index.name)  # one line of names above the rows
    with pd.option_context("display.max_colwidth", None, "display.html.border", 0):
        page = text.to_html(index=upright or not numbered, header=not upright)
    link = download_link("table.tsv", "Download TSV", full.encode())
    return HTML(f'<div class="tle-table">{page}{below}{link}</div>')


def settings_table(settings):
    """Settings of a network (`models.preset`) as a table for a page, one row per setting."""
    values = settings.model_dump(exclude={"network"})
    values |= {f"weight of {name}": weight for name, weight in (values.pop("class_weights", None) or {}).items()}
    in_words = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items()}
    return shown(pd.Series(in_words, name="value", dtype=object).to_frame())


def readable(results, metrics):
    """Some `metrics` as text (pandas.DataFrame), from `model_tests.results_table` or `model_tests.subgroups`.

    Each stands with its interval in one cell, like ``0.80 [0.76, 0.83]``, and beside the accuracy its spread over
    folds; an undefined value is ``–``. In sub-groups the accuracy of an answer that looks at nobody stands beside it.
    """
    parts = results[[f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]]
    cells = texts(parts, digits=2).set_axis(list(metrics), axis=1)
    out = results[[name for name in ("model", "by", "subgroup", "n") if name in results]].copy()
    beside = {"accuracy": "largest_class", "lateralization_accuracy": "larger_side"}
    for metric in metrics:
        out[metric] = cells[metric]
        if metric == "accuracy" and "accuracy_sd" in results:
            spread = _column(results["accuracy_sd"], 2)
            out["accuracy over folds"] = [sd if sd == MISSING else _span("SD {}", sd) for sd in spread]
        if (name := beside.get(metric)) in results:
            out[name] = _column(results[name], 2)
    last = [name for name in ("correct", "classes", "positive", "flags") if name in results]
    return out.assign(**{name: results[name] for name in last}).dropna(axis=1, how="all")


def interval_text(metrics, metric):
    """A metric of `metrics.model_metrics` for sentences, like ``0.83 (95 % CI 0.76–0.88, n = 150)``."""
    row = metrics.set_index("metric").loc[metric]
    return f"{row['value']:.2f} (95 % CI {row['ci_low']:.2f}–{row['ci_high']:.2f}, n = {row['n']})"


def _gain(test, against=""):
    p = f"; corrected p = {test['p_corrected']:.3f}" if test["p_corrected"] >= 0 else ""
    gain, low, high = (minus(f"{100 * test[name]:+z.1f}") for name in ("difference", "ci_low", "ci_high"))
    return f"{gain} points{against} (95 % CI {low} to {high}{p}"


def comparison_text(test):
    """The outcome of `model_tests.compare_models` as one sentence; where there is no test, the reason."""
    verdict = "a difference" if test["p_corrected"] < 0.05 else "no evidence of a difference"
    if not test["p_corrected"] >= 0:
        verdict = f"no test: {test['reason']}"
    values = f"{test['metric'].replace('_', ' ')} {test['value_a']:.2f} against {test['value_b']:.2f}"
    return f"{test['model_a']} against {test['model_b']}: {values}, {_gain(test)}; n = {test['n']}), {verdict}."


def gain_text(test):
    """The difference of `model_tests.compare_models` in points, against whom, with its interval and p."""
    return _gain(test, f" against {test['model_b']}") + ")"


def download_link(path, label, content=None):
    """A link (HTML) that holds a small file, or bytes of that name, so that it works without a server or a network."""
    path = Path(path)
    content = base64.b64encode(path.read_bytes() if content is None else content).decode()
    kind = "application/gzip" if path.suffix == ".gz" else mimetypes.guess_type(path.name)[0]
    return f'<a download="{html.escape(path.name)}" href="data:{kind};base64,{content}">{html.escape(label)}</a>'
