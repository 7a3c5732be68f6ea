"""The instrument: call a candidate on inputs of choice, and measure what it computes; in the order of `instrument`.

On the values of all batches, exactly:

``settings``     is it right under another setting, or as another loss?
``temperature``  at which temperature, as a law of the one that is passed?
``numbers``      with another number, or a factor that the batch size makes?
``rows``         with rows that were treated otherwise?
``added``        with a term besides?
``charges``      with another charge than -log p, or soft targets?
``met``          with other rows of a memory, other pairs of views, rows that are mixed, labels that are read late?
``logits``       with losses that are put together otherwise, or logits that something was done to?
``chosen``       with other negatives, by a rule?

Where the candidate can be called again:

``lab``          calls candidate and right answer on the same input
``geometry``     what of the embeddings counts?
``special``      distances, matrices for each step
``menus``        of losses with weights, temperatures of their own or estimates: which part is another of a menu?
``bench``        one similarity at a time
``pairs``        which similarities does the value depend on, and how?
``targets``      who is taken for the positive?
``penalty``      slope of the loss along one similarity
``sums``         which anchors share a sum?
``form``, ``law``, ``fitted``, ``freedoms``   weights, temperatures and targets of each anchor, by a fit
``precision``    how rough is it?

Of a wrong gradient of a right value:

``gradient``     in what does it differ?
``made``, ``parts``   of what is it made, and how often does each part count?
"""
