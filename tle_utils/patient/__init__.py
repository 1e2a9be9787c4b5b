"""One new person: preprocessing, quality gate, the model's answer, its explanation, norms and the card."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "case": ["KINDS", "clear_results", "examine", "given_image", "own_options", "quality"],
        "explanation": ["explanation_picture"],
        "model_card": ["provenance_rows", "result_rows"],
        "model_files": ["BINS", "describe_model", "trained_folds"],
        "model_store": ["answer_set", "ask_model", "conformal_of", "load_models", "write_models"],
        "norms": ["beyond", "describe_norm", "hippocampus_rows", "zscores"],
        "report": [
            "SHOWN",
            "card_content",
            "class_probabilities",
            "set_text",
            "write_card",
        ],
    },
)
