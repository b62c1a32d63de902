"""Encoding while training: processes read, decode and encode ahead of the trainer, in the order of training.

:mod:`survey` finds out the bucket of every sample beforehand, once, as :mod:`surveying` asks it to, so that
:mod:`schedule` can name the samples of any micro-batch, which :mod:`microbatches` numbers through the stages of a run.
:mod:`making` makes one of them; :mod:`producing` does it in other processes, which hand it over in the memory of
:mod:`slots`; :mod:`stream` gives them to the trainer, and knows who waits for whom. :mod:`opening` puts all that
together for a run, and :mod:`training` has the samples as training and validation take them.
"""
