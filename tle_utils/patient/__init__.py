"""One new person: preprocessing, quality gate, the model's answer, its explanation, norms and the card.

Throughout this door:

- ``model`` : ensemble.Ensemble, from `model_store.load_models`, and its ``card`` : model_card.ModelCard;
- ``given`` and ``case`` : case.Given, of `case.given_image` or `case.new_phantoms`, and case.Case, of `case.examine`;
- ``person`` : dict with ``age`` (years), ``sex`` (F or M) and ``head_size_ml``; None where not known;
- ``norms`` : norms.Norms, of the card, and ``known`` : out_of_distribution.TrainingMaps, of the card;
- ``participants`` : pandas.DataFrame from `participants.load_participants`, and their classes, ``groups``;
- ``volumes`` : pandas.DataFrame from `regions.read_regional_volumes`, columns (region, hemisphere), ml, and ``x``, from
  `multitask.load_inputs`, shape (n, rows, columns, slices): what the components of a model read;
- ``grey`` : numpy.ndarray, a grey-matter map on the template grid, shape (197, 233, 189);
- ``folder`` : path-like, where results lie or go to; ``workers`` : int, maps side by side.

Sides are the person's own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "case": [
            "KINDS",
            "PHANTOMS",
            "clear_results",
            "examine",
            "given_image",
            "new_phantoms",
            "own_options",
            "quality",
        ],
        "ensemble": ["answer_set", "ask_model", "trained_folds"],
        "explanation": ["Y_MM", "explanation_picture"],
        "model_card": ["conformal_of", "describe_model", "provenance_rows", "result_rows"],
        "model_store": ["load_models", "write_models"],
        "norms": ["beyond", "describe_norm", "hippocampus_rows", "hippocampus_text", "zscores"],
        "report": ["SHOWN", "card_content", "class_probabilities", "set_text", "write_card"],
    },
)
