"""Captioned images into a store (:mod:`prx_scale.data.store`): what `prx-scale encode` does.

:mod:`plan` works out what is to be encoded and :mod:`estimate` how large it becomes, both before anything is loaded.
:mod:`reading` reads samples ahead, :mod:`preparing` brings them to what :mod:`encoders` are given, and :mod:`oneshard`
makes a shard of them. :mod:`job` is what one process does, :mod:`processes` are several, :mod:`parts` share a store out
among launches, :mod:`measuring` times a first batch, and :mod:`running` does all of it.
"""
