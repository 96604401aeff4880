// exp and what is made of it, of 16 floats at once.
#pragma once

#include "kernels/simd.hpp"

namespace grt::GRT_ISA {

// e^x for x up to 0; numbers below -87 count as that. Cody and Waite's reduction and a polynomial of degree 6
// (Taylor's, on |r| <= ln 2 / 2); relative error below 2e-7.
GRT_INLINE F exp_negative(F x) {
  x = max(x, set(-87.0F));
  const F n = round(mul(x, set(1.44269504F)));
  const F r = sub(sub(x, mul(n, set(0.693359375F))), mul(n, set(-2.12194440e-4F)));
  F y = set(1.0F / 720);
  y = add(mul(y, r), set(1.0F / 120));
  y = add(mul(y, r), set(1.0F / 24));
  y = add(mul(y, r), set(1.0F / 6));
  y = add(mul(y, r), set(0.5F));
  y = add(mul(y, r), set(1.0F));
  y = add(mul(y, r), set(1.0F));
  return scale(y, n);
}

// z / 2 (1 + tanh u) with u = sqrt(2 / pi) (z + 0.044715 z^3), which is z / (1 + e^(-2 u)); where -2 u is
// above 0 it is z e^(2 u) / (1 + e^(2 u)), so that no power is large.
GRT_INLINE F gelu(F z) {
  const F zero = set(0.0F);
  const F cubic = add(z, mul(mul(set(0.044715F), mul(z, z)), z));
  const F v = mul(cubic, set(1.59576912F));  // 2 u
  const F e = exp_negative(min(v, sub(zero, v)));
  return div(pick(v, zero, mul(z, e), z), add(set(1.0F), e));
}

// The same for hidden numbers that are rounded to integers next: z (1/2 + c P(c^2)), c being z within 4 and P
// a polynomial of degree 8 that is nearest by the largest error: 1.5e-5, and that share of z beyond 4.
GRT_INLINE F gelu_polynomial(F z) {
  const F c = max(min(z, set(4.0F)), set(-4.0F)), t = mul(c, c);
  F y = set(8.16892318e-11F);
  y = add(mul(y, t), set(-7.22979854e-09F));
  y = add(mul(y, t), set(2.84349767e-07F));
  y = add(mul(y, t), set(-6.62957837e-06F));
  y = add(mul(y, t), set(0.000103678656F));
  y = add(mul(y, t), set(-0.00117161206F));
  y = add(mul(y, t), set(0.010028257F));
  y = add(mul(y, t), set(-0.0666227862F));
  y = add(mul(y, t), set(0.398866653F));
  return mul(z, add(mul(y, c), set(0.5F)));
}

}  // namespace grt::GRT_ISA
