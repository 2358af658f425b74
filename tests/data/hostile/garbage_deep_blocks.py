# Blocks in blocks.
# expect: syntax_error
# --- candidate ---
if 1:
 if 1:
  if 1:
   if 1:
    if 1:
     if 1:
      if 1:
       if 1:
        if 1:
         if 1:
          for a in b:
           for a in b:
            for a in b:
             for a in b:
              for a in b:
               for a in b:
                for a in b:
                 for a in b:
                  for a in b:
                   for a in b:
                    for a in b:
                     for a in b:
                      for a in b:
                       for a in b:
                        for a in b:
                         for a in b:
                          for a in b:
                           for a in b:
                            for a in b:
                             for a in b:
                              for a in b:
                               pass
