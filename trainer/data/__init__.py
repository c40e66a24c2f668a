"""From a data set on disk to batches on a device, in an order that is a pure function of the seed."""

from trainer.data.loader import eval_batches, train_batches
from trainer.data.sources import DataSet, Samples, open_data, open_for_evaluation

__all__ = ["DataSet", "Samples", "eval_batches", "open_data", "open_for_evaluation", "train_batches"]
