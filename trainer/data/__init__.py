"""From a data set on disk to batches on a device, in an order that is a pure function of the seed."""

from trainer.data.loader import EvalBatches, train_batches
from trainer.data.sources import DataSet, Samples, open_data, open_for_evaluation

__all__ = ["DataSet", "EvalBatches", "Samples", "open_data", "open_for_evaluation", "train_batches"]
